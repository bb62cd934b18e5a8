"""Trees of taxa: built from names, columns or edges; counted, walked and shown."""

from headwater.taxonomy.build import from_columns, from_edges, from_folders, read_table
from headwater.taxonomy.show import tree_lines
from headwater.taxonomy.tree import LEVELS, Taxonomy

__all__ = ["LEVELS", "Taxonomy", "from_columns", "from_edges", "from_folders", "read_table", "tree_lines"]
