"""A config with every key and what it does, to start from; a test reads it as it is."""

EXAMPLE = """\
# headwater run --config THIS_FILE
# Keys are the options of the commands named here; paths start where the command is called.

out: runs/inat                      # the run's folder: store, heads, results.csv, report.html, submission.zip

extract:                            # as `headwater extract`; instead of it `store: FOLDER`, one that is there
  source: data/inat_train           # a folder, a manifest, arrays, an archive, hf://datasets/OWNER/REPO/FILE
  backbone: resnet50
  weights: checkpoints/resnet50.pth # a name such as IMAGENET1K_V2, a file, hf://OWNER/REPO/FILE, random
  preprocess: inat-contest          # how images are resized and normalised; without it, as the weights want
  views: 0                          # augmented views kept next to each image's plain one
# out: features.store               # where the store goes; without it, in the run's folder
# batch_size: 16                    # and: precision, dtype, compile, workers, strict, path_column,
#                                   # rows_per_shard

# annotate:                         # as `headwater store annotate`; a list for several tables
#   table: labels.csv
#   key: path                       # the table's column that holds the row keys
#   by: species                     # the store's column to join by instead of row keys
#   levels: superclass, class       # columns that are levels of one taxonomy, from the root
#   edges: false                    # true: the table has child and parent, and makes levels above `by`
#   replace: false
#   allow_missing: false

split:                              # as `headwater store split`, or the name of a column that is there
  train: 0.8
  val: 0.1
  test: 0.1
  stratify: species
  seed: 0
# column: split
# replace: false

target: phylum                      # a column, or a level of the taxonomy by name or number
groups: species                     # columns, or a level at or below the target's; none: the classes

sweep:                              # as `headwater heads sweep`; instead of it `fit`, see below
  methods: ERM, RWG, HierRW, HierSampler
  draws: 8                          # settings of each method; instead of it a grid:
# grid: {HierRW.temper: [0, 0.5, 1]}
# set: {l2: 0.01}                   # settings that all candidates share
  seeds: 3                          # how many, or a list of them
  select: worst_area                # the rule that picks a head
# folds: 3
# views: true                       # train on the augmented views, too

# fit:                              # as `headwater heads fit`
#   methods:
#     ERM:
#     HierRW: {temper: 0.5}
#   set: {l2: 0.01}
#   seed: 0
#   views: true

report: true                        # as `headwater report`: true, false, a page.html, or these keys:
# report:
#   out: runs/inat/report.html
#   images: data/inat_train         # where the images are, if not where the store says
#   replace: false                  # true: also a file that this run did not make

export:                             # as `headwater heads export`
  out: runs/inat/submission.zip
# method: HierRW                    # whose head, where no rule picks one
# weights: checkpoints/resnet50.pth # without it, those of `extract`
# images: 8                         # how many images the submission is tried on
# replace: false

device: auto                        # auto, cpu, cuda or cuda:N
"""
