"""Runs of the command line: settings, data, folder, and what is done from start to end."""
