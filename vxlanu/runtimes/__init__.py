"""Adapters: what container runtimes call, and what we ask of them. One folder for each protocol."""
