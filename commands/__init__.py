"""The commands of the `maquette` command line, one file each."""
