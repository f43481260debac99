"""A stranger to the product: simulates callers over real sockets and measures what they got."""
