"""The application's agents: thin decorated functions over pure rules."""
