"""The Python clients, one module each, with the same five functions: produce, read, one_by_one, send_paced, listen."""
