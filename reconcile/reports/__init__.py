"""The Reports API: its client, its formats, and downloading by it."""
