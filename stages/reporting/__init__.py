"""Tables, figures and the page, for people."""
