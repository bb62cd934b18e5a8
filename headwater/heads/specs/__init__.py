"""What a head is asked to be and what it became, as plain data; nothing here computes."""
