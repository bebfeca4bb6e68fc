"""FineTuneJob: the data is checked, attempts are started until one ends well, and its result becomes an Adapter."""
