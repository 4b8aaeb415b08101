"""The JSON API, under ``/api``: the same as the pages, for programs. Its document is made from its routes."""
