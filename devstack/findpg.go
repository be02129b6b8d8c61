package devstack

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
)

// ErrNoPostgres says that there is no PostgreSQL server, which is not built.
var ErrNoPostgres = errors.New("no PostgreSQL server was found: install it (Debian and Ubuntu: `apt-get install postgresql`), " +
	"so that initdb, postgres and psql are in one folder on PATH or in /usr/lib/postgresql/VERSION/bin")

// debianBins is where Debian has the servers of all versions, none on PATH.
const debianBins = "/usr/lib/postgresql/*/bin"

// FindPostgres returns the folder of a PostgreSQL's programs: that of the initdb
// on PATH, else the newest that Debian's packages have installed.
func FindPostgres() (string, error) {
	var folders []string
	if path, err := lookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(path))
		if target, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(target))
		}
	}
	packaged, err := filepath.Glob(debianBins)
	if err != nil {
		return "", err
	}
	slices.SortFunc(packaged, func(a, b string) int { return cmp.Compare(debianVersion(b), debianVersion(a)) })
	for _, folder := range append(folders, packaged...) {
		if complete(folder) {
			return folder, nil
		}
	}
	return "", ErrNoPostgres
}

// debianVersion is the VERSION of /usr/lib/postgresql/VERSION/bin.
func debianVersion(bins string) float64 {
	version, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(bins)), 64) // 0 for what is none
	return version
}

// complete reports whether a folder has all the programs that we need.
func complete(folder string) bool {
	for _, name := range []string{"initdb", "postgres", "psql"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// unprivileged is the user as whom a server runs that refuses to run as root:
// nil where we are not root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else than ourselves
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w (PostgreSQL does not run as root, and there is no user postgres as whom it could)", ErrNoPostgres)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &account{uid: uint32(uid), gid: uint32(gid)}, err
}

// own gives a file to the account.
func (a *account) own(path string) error { return os.Chown(path, int(a.uid), int(a.gid)) }

// temporary is a folder for temporary files that the account can enter: that of
// our own, which is "", unless it is root's alone.
func (a *account) temporary() string {
	if a == nil {
		return ""
	}
	for dir := filepath.Clean(os.TempDir()); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
	}
	return ""
}
