"""Files that ship with the program: unit files, sample configuration, dissectors."""
