"""The control plane: a pure core (`vxlanu.control.core`) and a thin asyncio shell around it.

The folder stands at the top of the repository and ships as `vxlanu.control`. Imported as plain `control` it would be a
second copy of every class, so that is refused.
"""

if __name__ != "vxlanu.control":
    raise ImportError("import vxlanu.control, not control: the folder is mapped into the vxlanu package")
