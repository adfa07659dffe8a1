"""A YAML file that a user edits, read strictly: a repeated or misspelt key is an error."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from typing import Any

import yaml


class YamlProblem(ValueError):
    """A file that cannot be read; the message says which line and what to do."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys; here the second one is a mistake."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise YamlProblem(
                    f", line {key.start_mark.line + 1}: {key.value}: is there twice; keep one of them"
                )
            seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(file: Traversable) -> Any:
    """The file's content. YamlProblem's message goes behind the file's name; a file that is not there is the caller's
    affair."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)  # a SafeLoader
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        where = getattr(e, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise YamlProblem(f"{line} is not readable YAML; check its indentation and quotes") from None
