"""One module per claim that headwater makes about speed; each runs us and a peer side by side."""
