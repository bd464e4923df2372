"""Write schema.json: what the AWS provider takes and gives, for the resources
that terraform/ uses. The source is the provider's own schema as CDK for
Terraform publishes it; run this again when a resource is new here:

    npm pack @cdktf/provider-aws@21.22.1 && tar xzf cdktf-provider-aws-21.22.1.tgz
    python3 schema.py package/lib ../../terraform > schema.json

Version 21.22.1 is of provider 6.25.0. Types and enumerations are not in it.
"""

import json
import pathlib
import re
import sys

INTERFACE = re.compile(r"export interface (\w+)[^{]*\{(.*?)^\}", re.S | re.M)
FIELD = re.compile(r"readonly (\w+)(\??): ([^;]+)")
FUNCTION = re.compile(r"function (\w+)ToHclTerraform\(struct\)(.*?)^\}", re.S | re.M)
ARGUMENT = re.compile(r"^ {8,12}(\w+): \{\s*value: (.*?),\s*isBlock: (true|false),", re.S | re.M)
USED = re.compile(r'^(resource|data) "aws_(\w+)"', re.M)


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


class Source:
    def __init__(self, directory):
        types = "".join(p.read_text() for p in sorted(directory.glob("*.d.ts")))
        code = "".join(p.read_text() for p in sorted(directory.glob("*.js")))
        self.fields = {}
        for name, body in INTERFACE.findall(types):
            body = re.sub(r"/\*\*.*?\*/", "", body, flags=re.S)
            self.fields[name.lower()] = {f: (optional == "", kind) for f, optional, kind in FIELD.findall(body)}
        self.writers = {name.lower(): body for name, body in FUNCTION.findall(code)}
        self.types, self.code = types, code

    def block(self, interface, body):
        out = {"attributes": {}, "blocks": {}}
        for name, value, is_block in ARGUMENT.findall(body):
            required, kind = self.fields.get(interface.lower(), {}).get(camel(name), (False, ""))
            if is_block == "false":
                out["attributes"][name] = required
                continue
            inner = next(w for w in re.findall(r"(\w+)ToHclTerraform", value) if w.lower() in self.writers)
            out["blocks"][name] = self.block(inner, self.writers[inner.lower()])
            out["blocks"][name] |= {"required": required, "single": "[]" not in kind}
        return out

    def whole(self):
        config = re.search(r"constructor\(scope: Construct, id: string, config\??: (\w+)", self.types)[1]
        out = self.block(config, self.code[self.code.index("synthesizeHclAttributes()"):])
        own = self.types[self.types.index("static readonly tfResourceType"):]
        names = {camel(n): n for n in [*out["attributes"], *out["blocks"]]}
        read = {names.get(g, re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), g)) for g in re.findall(r"^    get (\w+)\(\)", own, re.M)}
        out["readable"] = sorted({r for r in read if not r.endswith("_input")} | set(names.values()))
        return out


def main(library, configuration):
    used = {pair for p in configuration.rglob("*.tf") for pair in USED.findall(p.read_text())}
    lines = {"resource": [], "data": []}
    for mode, name in sorted(used):
        directory = library / (("data-aws-" if mode == "data" else "") + name.replace("_", "-"))
        text = json.dumps(Source(directory).whole(), sort_keys=True, separators=(",", ":"))
        lines[mode].append(f'"aws_{name}":{text}')
    print("{" + ",\n".join(f'"{mode}":{{\n' + ",\n".join(rows) + "\n}" for mode, rows in lines.items()) + "}")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
