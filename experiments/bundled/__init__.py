"""How the BERT in the box was made."""
