"""Trees of taxa: built from names, columns or edges; counted, walked and shown."""

from headwater.taxonomy.build import from_columns, from_edges, from_folders, read_table
from headwater.taxonomy.show import tree_lines
from headwater.taxonomy.stored import levels_of
from headwater.taxonomy.tree import LEVELS, Taxonomy, level_number

__all__ = [
    "LEVELS",
    "Taxonomy",
    "from_columns",
    "from_edges",
    "from_folders",
    "level_number",
    "levels_of",
    "read_table",
    "tree_lines",
]
