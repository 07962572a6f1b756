"""Links to the documentation of other projects without a network.

``docs/inventories/PROJECT.txt`` has the address of a project in its first line, and then a line
``DOMAIN:ROLE NAME ADDRESS`` for each thing that our pages link to, where ``$`` in the address
stands for the name. From them come the inventories that Sphinx's intersphinx reads. A name that
no line has is a warning, and so an error of the build.
"""

import zlib


def mapping(texts, folder):
    """Return `intersphinx_mapping`, having written an ``objects.inv`` for each of the `texts`.

    Parameters
    ----------
    texts : pathlib.Path
        The folder of the texts.
    folder : pathlib.Path
        Where the inventories are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for text in sorted(texts.glob("*.txt")):
        address, *lines = text.read_text("utf-8").split("\n")
        inventory = folder / f"{text.stem}.inv"
        inventory.write_bytes(_inventory(text.stem, filter(None, lines)))
        found[text.stem] = (address, str(inventory))
    return found


def _inventory(project, lines):
    """Return an inventory in version 2 of the format, from our lines."""
    header = (
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    entries = []
    for line in lines:
        role, name, place = line.split()
        entries.append(f"{name} {role} 1 {place.replace('$', name)} -\n")
    return header.encode() + zlib.compress("".join(entries).encode())
