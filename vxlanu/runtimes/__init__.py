"""Adapters to container runtimes: each speaks one runtime's protocol and asks the agent in the agent's own words."""
