"""How a stack of heads is solved: smooth heads by L-BFGS, sparse ones by working sets and Newton steps."""
