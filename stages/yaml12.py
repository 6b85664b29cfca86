"""Reading YAML 1.2 with PyYAML, so that params.yaml means here what it means to DVC.

PyYAML follows YAML 1.1, to which `1e-4` is text and `010` is eight. DVC reads and writes with ruamel.yaml, which
follows YAML 1.2; `tests/test_yaml12.py` holds this reader against DVC's own.
"""

import re
from pathlib import Path
from typing import Any

import yaml


class Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers and truth values of YAML 1.2, which refuses a key that stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML keeps them
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping as a dictionary.

        Raises:
            yaml.YAMLError: a key stands there twice, of which PyYAML would take the last.
        """
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer: decimal whatever it begins with, but for 0b, 0o and 0x."""
        digits = str(self.construct_scalar(node)).replace("_", "")
        return int(digits, 0 if re.match(r"[-+]?0[box]", digits) else 10)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        """Return a float; `.inf` and `.nan` have a dot that Python does not know."""
        digits = str(self.construct_scalar(node)).replace("_", "").lower()
        return float(re.sub(r"\.(?=inf|nan)", "", digits))


INT = r"[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)"
FLOAT = r"""[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
          |[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"""
for kind, pattern, first_characters in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("float", FLOAT, "-+0123456789."),
    ("int", INT, "-+0123456789"),
):
    expression = re.compile(f"^(?:{pattern})$", re.VERBOSE)
    Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", expression, list(first_characters))
Yaml12Loader.add_constructor("tag:yaml.org,2002:int", Yaml12Loader.construct_int)
Yaml12Loader.add_constructor("tag:yaml.org,2002:float", Yaml12Loader.construct_float)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; nothing in it is executed.

    Raises:
        OSError: the file cannot be read.
        yaml.YAMLError: it is not YAML.
    """
    return parse_yaml(path.read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    """Return the content of YAML; nothing in it is executed.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, Loader=Yaml12Loader)  # a subclass of SafeLoader
