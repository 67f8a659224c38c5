"""REST: a module for each resource. ``api.py`` puts them together, ``openapi.py`` describes them."""
