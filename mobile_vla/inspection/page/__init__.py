"""Write what a data set holds as a single HTML page that works without a network."""
