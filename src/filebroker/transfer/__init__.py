"""Moving runs into catalogs, out of them and between them, and proving that they are whole."""
