#!/bin/sh
# Long English texts from Debian 12's documentation packages, as plain text:
#
#     benchmarks/probe_model/texts.sh FOLDER
#
# It needs apt-get, dpkg-deb, a network and 1 GB of disk for a while. FOLDER gets one folder a package, about 60 MB.
set -eu
packages="apache2-doc bash-doc cppreference-doc-en-html debian-faq debian-handbook debian-policy debian-reference-en
developers-reference exim4-doc-html fortunes git-doc gnome-user-docs linux-doc-6.1 maint-guide manpages
manpages-dev miscfiles octave-doc perl-doc postfix-doc postgresql-doc-15 python-django-doc r-doc-html rust-doc scheme9
sqlite3-doc vim-doc zsh-doc"
mkdir -p "$1"
out=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for package in $packages; do
    mkdir "$scratch/$package"
    (cd "$scratch/$package" && apt-get download "$package" && dpkg-deb -x ./*.deb files && rm ./*.deb)
done
python3 "$(dirname "$0")/plain.py" "$scratch" "$out"
