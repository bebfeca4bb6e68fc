"""From examples to tokens: rendered as the model is prompted, marked where they are trained, kept ready on disk.

tokenizer.py and template.py know the model's files; answers.py finds the model's own words in a rendered
conversation; encode.py makes tokens of both. prepared.py runs a dataset through them and keeps the result.
"""
