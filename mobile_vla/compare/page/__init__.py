"""Write a comparison as a single HTML page that works without a network."""
