"""The command-line client for users of Fettle."""
