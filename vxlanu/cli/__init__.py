"""The command line: a thin client of the API. `main` is the door; each noun has a file of its own."""
