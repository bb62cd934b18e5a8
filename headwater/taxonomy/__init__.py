"""Trees of taxa: built from names, columns or edges; counted, walked and shown."""

from headwater.taxonomy.build import (
    NOT_NAMED_SO,
    from_codes,
    from_columns,
    from_edges,
    from_folders,
    names_in,
    read_table,
)
from headwater.taxonomy.show import TreeRow, describe_homonyms, tree_rows
from headwater.taxonomy.stored import annotate_edges, levels_among, levels_of, name_levels, stored_tree
from headwater.taxonomy.tree import LEVELS, Taxonomy, level_number

__all__ = [
    "LEVELS",
    "NOT_NAMED_SO",
    "Taxonomy",
    "TreeRow",
    "annotate_edges",
    "describe_homonyms",
    "from_codes",
    "from_columns",
    "from_edges",
    "from_folders",
    "level_number",
    "levels_among",
    "levels_of",
    "name_levels",
    "names_in",
    "read_table",
    "stored_tree",
    "tree_rows",
]
