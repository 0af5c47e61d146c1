"""What all HTML pages share: the document around their content, the style sheet, the data for their scripts."""
