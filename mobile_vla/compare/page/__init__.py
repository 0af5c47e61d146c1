"""Write a comparison as one page of HTML that needs no network."""
