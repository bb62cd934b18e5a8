#!/bin/bash
# Builds the CPU variant of the Dockerfile without a container engine and without a registry, and runs the
# demo inside it: `make image-check`.
#
# Needs: Debian or Ubuntu, root, and `apt-get install buildah debootstrap`; DISK_GB free where temporary
# files go (TMPDIR says where), all of it given back at the end. Buildah's own storage is left alone.
# A pip configured for an index of one's own (pip.conf, PIP_* variables) is followed inside the build too.
set -euo pipefail

DISK_GB=40       # at the commit: the container, the image and its blobs on the way, each a full copy
SUITE=bookworm   # of Debian: its python3 is 3.11
BASE=localhost/headwater-base
IMAGE=localhost/headwater:cpu

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { echo "image-check: $*" >&2; exit 1; }
step() { echo "== $* (after ${SECONDS} s)"; }

[ "$(id -u)" = 0 ] || fail "needs root, because debootstrap makes a root file system; run it with sudo"
for tool in buildah debootstrap; do
    command -v "$tool" > /dev/null || fail "$tool is missing; apt-get install buildah debootstrap"
done

work=$(mktemp --directory --tmpdir headwater-image.XXXXXXXX)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs TMPDIR=$work

engine() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

clean_up() {
    status=$?
    trap - EXIT
    # A folder of this machine that is still mounted below must not be emptied with the rest.
    if grep -q " $work/" /proc/mounts; then
        echo "image-check: something is still mounted under $work, which is left as it is" >&2
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

free_gb=$(($(df --output=avail -k "$work" | tail -n 1) / 1024 / 1024))
[ "$free_gb" -ge "$DISK_GB" ] || fail "needs $DISK_GB GB for a while, and there are $free_gb GB free at $work; set TMPDIR"

# Whatever pip is told on this machine, it is told in the build: one pip.conf, and the local folders and
# files that it names. On a machine where pip is not configured both come out empty.
follow_pip() {
    mkdir "$work/pip"
    python3 - "$work/pip" << 'PYTHON'
"""Write pip.conf, copies of the files it names, and the folders to mount, from what pip itself reports."""
import ast, pathlib, shutil, subprocess, sys

out = pathlib.Path(sys.argv[1])
KEYS = ["index-url", "extra-index-url", "no-index", "find-links", "constraint", "cert", "client-cert",
        "trusted-host", "proxy", "timeout", "default-timeout", "retries"]
listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
told = {}
for section in ("global", "install", ":env:"):  # the later wins, as for pip
    for line in listing.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.startswith(section + ".") and name[len(section) + 1:] in KEYS:
            told[name[len(section) + 1:]] = ast.literal_eval(value)

mounts = []
def inside(key, word):
    """The same place seen from the build."""
    path = pathlib.Path(word.removeprefix("file://"))
    if not path.is_absolute() or not path.exists():
        return word
    if path.is_file():
        shutil.copy(path, out / f"{key}-{path.name}")
        return f"/run/host-pip/{key}-{path.name}"
    # An index page may point to files beside the index; a folder of wheels holds them itself.
    mounts.append(path.parent if key.endswith("index-url") and path.parent != path.parent.parent else path)
    return word

with (out / "pip.conf").open("w") as conf:
    conf.write("[global]\n")
    for key, value in told.items():
        conf.write(f"{key} = " + "\n    ".join(inside(key, word) for word in value.split()) + "\n")
(out / "mounts").write_text("".join(f"{path}\n" for path in dict.fromkeys(mounts)))
PYTHON
    pip_options=(--secret "id=pip.conf,src=$work/pip/pip.conf" --volume "$work/pip:/run/host-pip:ro")
    while read -r folder; do pip_options+=(--volume "$folder:$folder:ro"); done < "$work/pip/mounts"
}

# The mirror this machine installs from, where it has one for the suite; else debootstrap's own default.
mapfile -t mirror < <(apt-get indextargets --format "\$(CODENAME) \$(ORIGIN) \$(SITE)" \
    | awk -v suite="$SUITE" '$1 == suite && $2 == "Debian" {print $3}' | head -n 1)

step "a Debian $SUITE root"
debootstrap --variant=minbase "$SUITE" "$work/debian" "${mirror[@]}" > "$work/debootstrap.log" 2>&1 \
    || { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
rm -rf "$work/debian/var/cache/apt/archives/"*.deb
tar --create --file "$work/debian.tar" --directory "$work/debian" .
rm -rf "$work/debian"
container=$(engine from scratch)
engine add --quiet "$container" "$work/debian.tar" / > /dev/null
rm "$work/debian.tar"
engine commit --quiet --rm "$container" "$BASE" > /dev/null

step "the image, with BASE=$BASE and EXTRA=cpu"
follow_pip
# No layer cache: with this storage driver each layer would be one more full copy.
engine build --layers=false --pull-never --build-arg BASE="$BASE" --build-arg EXTRA=cpu \
    "${pip_options[@]}" --tag "$IMAGE" "$repository"
engine inspect --type image --format \
    'user {{.OCIv1.Config.User}}, entry point {{.OCIv1.Config.Entrypoint}}, volumes {{.OCIv1.Config.Volumes}}' "$IMAGE"
echo
container=$(engine from --pull-never "$IMAGE")
echo "size $(du --summarize --block-size=1G "$(engine mount "$container")" | cut -f 1) GB"
engine umount "$container" > /dev/null

step "inside the image"
# As `docker run` would: the entry point and the user that the image names, and a host's folder as /stores.
# With `docker run -v` such a folder takes the volume's place; here the volume has to be taken away first.
entry=$(engine inspect --type image --format '{{index .OCIv1.Config.Entrypoint 0}}' "$IMAGE")
engine config --volume /stores- --volume /cache- "$container"
mkdir --mode 1777 "$work/stores" "$work/cache" "$work/cache-of-another"
inside() { engine run --volume "$work/stores:/stores" --volume "$work/cache:/cache" "$container" -- "$@"; }

user=$(inside id -u)
[ "$user" != 0 ] || fail "the image runs as root"
inside sh -c '! touch /opt/headwater/probe 2> /dev/null' || fail "user $user can write to the installed program"
inside "$entry" --version
# Compiling wants g++, Python's headers and a cache to write to; a user the image has never heard of is the
# harder case, and what `docker run --user` promises. A cache belongs to one user, so this one has its own.
engine run --user 4321:4321 --volume "$work/cache-of-another:/cache" "$container" -- python -c \
    'import torch; print("compiled:", torch.compile(lambda x: (x.sin() + 1).sum())(torch.zeros(64)).item())'
inside "$entry" demo --out /stores/demo

report=$(find "$work/stores/demo" -name '*.html' -size +10k | head -n 1)
[ -n "$report" ] || fail "the demo ended well but left no report under /stores/demo"
[ "$(stat --format %u "$report")" = "$user" ] || fail "the report does not belong to user $user"
step "done: user $user wrote ${report#"$work"}, $(stat --format %s "$report") bytes"
