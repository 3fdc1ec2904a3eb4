"""HTTP: one module per surface with its handlers and its route table; `app` puts them together."""
