"""What a general head minimises, as a function of its logits: row losses, risks, invariances, their sum."""
