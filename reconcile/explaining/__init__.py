"""Single messages: found, judged by the core, and asked what would change their verdict."""
