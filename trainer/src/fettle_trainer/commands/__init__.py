"""One module per command: it declares the arguments, calls what does the work, prints, and chooses the exit code."""
