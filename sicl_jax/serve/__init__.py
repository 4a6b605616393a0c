"""Search as a service: a page in the browser and a JSON API over an index."""
