"""A kind of contract for import-linter: modules that only their own package imports, told by the ends of their names.

Its built-in contracts take whole names of modules alone, and a feature may have more than one module of a kind
(`store`, `time_store`).
"""

from collections.abc import Collection

import grimp
from importlinter import Contract, ContractCheck, fields, output


class PackagePrivate(Contract):
    """`endings`: of the names of modules. `allowed_importers`: packages that may import them all the same."""

    type_name = "package_private"

    package = fields.StringField()
    endings = fields.SetField(subfield=fields.StringField())
    allowed_importers = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        allowed = set(self.allowed_importers or ())
        foreign = [
            f"{importer} -> {module}"
            for module in sorted(graph.modules)
            if module.startswith(f"{self.package}.") and _ends(module, self.endings)
            for importer in sorted(graph.find_modules_that_directly_import(module))
            if package_of(importer) not in {package_of(module), *allowed}
        ]
        return ContractCheck(kept=not foreign, metadata={"foreign": foreign})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["foreign"]:
            output.print_error(line, bold=False)
        output.print_error("Ask the service of that package instead.", bold=False)


def package_of(module: str) -> str:
    """`homeserver.rooms.store` is of `homeserver.rooms`."""
    return ".".join(module.split(".")[:2])


def _ends(module: str, endings: Collection[str]) -> bool:
    """`time_store` ends with `store`, `restore` does not."""
    return f"_{module.rpartition('.')[2]}".endswith(tuple(f"_{ending}" for ending in endings))
