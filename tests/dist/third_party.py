"""What is linked into a package besides our own code: a bill of materials (CycloneDX 1.6) and the licences.

Both come from `cargo metadata`: every crate that is compiled into the file, on any of the targets. Procedural macros
and build scripts run while it is built and are not in it.
"""

import collections
import datetime
import json
import pathlib
import re
import subprocess
import uuid

import tomllib
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from targets import TARGETS

# It has no code (tests/feature_set.py): what only it asks for is in no file.
NO_CODE = "wsguard-feature-set"
LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|notice|unlicense|copyright)(?:[-._].*)?", re.I)
RULE = "=" * 100


def metadata(source: pathlib.Path) -> dict:
    """Every package and who depends on whom, on the targets that packages are built for."""
    platforms = [word for target in TARGETS for word in ("--filter-platform", target.triple)]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *platforms]
    return json.loads(subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout)


def linked(data: dict, root: str) -> dict[str, list[str]]:
    """Id of each package that is compiled into `root` -> the ids that it depends on; `root` comes first."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    first = next(id for id, package in packages.items() if package["name"] == root and package["source"] is None)
    found: dict[str, list[str]] = {}
    waiting = collections.deque([first])
    while waiting:
        id = waiting.popleft()
        if id in found:
            continue
        found[id] = sorted(
            dep["pkg"]
            for dep in nodes[id]["deps"]
            if any(kind["kind"] is None for kind in dep["dep_kinds"]) and in_file(packages[dep["pkg"]])
        )
        waiting.extend(found[id])
    return found


def in_file(package: dict) -> bool:
    macros = any("proc-macro" in target["kind"] for target in package["targets"])
    return not macros and package["name"] != NO_CODE


def bill(source: pathlib.Path, data: dict, root: str, product: str, epoch: int) -> str:
    """The bill of materials of `root`, which is shipped as `product`, as JSON that the schema accepts."""
    packages = {package["id"]: package for package in data["packages"]}
    checksums = {
        (one["name"], one["version"]): one.get("checksum")
        for one in tomllib.loads((source / "Cargo.lock").read_text())["package"]
    }
    tree = linked(data, root)

    def purl(id: str) -> str:
        return f"pkg:cargo/{packages[id]['name']}@{packages[id]['version']}"

    def component(id: str) -> dict:
        package = packages[id]
        made = {
            "type": "library",
            "bom-ref": purl(id),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(id),
        }
        if package["license"]:
            made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if checksum := checksums.get((package["name"], package["version"])):
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return made

    first, *others = tree
    main = component(first) | {"name": product, "type": "library"}
    listed = sorted(others, key=purl)

    made = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": datetime.datetime.fromtimestamp(epoch, datetime.UTC).isoformat(), "component": main},
        "components": [component(id) for id in listed],
        "dependencies": [
            {"ref": purl(id), "dependsOn": [purl(other) for other in tree[id]]} for id in [first, *listed]
        ],
    }
    # The same materials have the same number, whenever and wherever the bill is written.
    made["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True)).urn
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"dist: the bill of materials of {product} is not CycloneDX 1.6: {fault}")
    return text


def licences(source: pathlib.Path, data: dict, root: str) -> str:
    """The licences of what is linked into `root`: a list, then each text once."""
    packages = {package["id"]: package for package in data["packages"]}
    foreign = [packages[id] for id in linked(data, root) if packages[id]["source"] is not None]
    foreign.sort(key=lambda package: (package["name"], package["version"]))
    texts: dict[str, list[str]] = collections.defaultdict(list)
    without = []
    for package in foreign:
        found = texts_of(pathlib.Path(package["manifest_path"]).parent)
        for text in found:
            texts[text].append(f"{package['name']} {package['version']}")
        if not found:
            without.append(package)
    lines = ["Software of others that is linked into this package, each under its own licence.", ""]
    lines += [f"{one['name']} {one['version']}: {one['license'] or 'see its text below'}" for one in foreign]
    for text, users in texts.items():
        lines += ["", RULE, ", ".join(users), RULE, "", text]
    if without:
        lines += ["", RULE, "These crates carry no text of their licence. Copyright: their authors.", RULE, ""]
        lines += [
            f"{one['name']} {one['version']}: {one['license']}; {', '.join(one['authors']) or 'its authors'}"
            for one in without
        ]
        for name in ("LICENSE-MIT", "LICENSE-APACHE"):
            text = (source / name).read_text()
            lines += ["", re.sub(r"Copyright \(c\) .*", "Copyright (c) the authors named above", text).strip()]
    return "\n".join(lines) + "\n"


def texts_of(crate: pathlib.Path) -> list[str]:
    """The texts of licences in a crate, also of the C sources that it carries."""
    files = sorted(path for path in crate.rglob("*") if LICENCE_FILE.fullmatch(path.name) and path.is_file())
    found = []
    for path in files:
        if path.suffix in (".rs", ".go", ".py", ".c", ".h", ".sh", ".toml"):
            continue
        text = path.read_text(errors="replace").strip()
        if text and text not in found:
            found.append(text)
    return found
