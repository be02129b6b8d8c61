package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// update changes the file under its lock.
func (f *KeyFile) update(change func(*keyDocument) error) (err error) {
	path, err := f.target()
	if err != nil {
		return err
	}
	// Nothing is made, not even a lock, that the file's user could not open.
	if err := mayReplace(path); err != nil {
		return err
	}
	release, err := acquire(path+lockSuffix, lockWait)
	if err != nil {
		return fmt.Errorf("the lock of the key file: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	doc, _, err := f.read()
	if err != nil {
		return err
	}
	if err := change(doc); err != nil {
		return err
	}
	for i := range doc.Keys {
		if old := doc.Keys[i].Previous; old != nil && !old.Until.After(now()) {
			doc.Keys[i].Previous = nil
		}
	}
	data, err := json.Marshal(doc, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	if len(data) >= maxKeyFile {
		return fault.New(fault.Conflict, "the key file would grow too large; revoke some keys")
	}
	return replaceFile(path, append(data, '\n'))
}

// target is the file to replace. Where the name is a symbolic link to a file,
// that is the file behind it, and the link stays.
func (f *KeyFile) target() (string, error) {
	if err := secret.MakeFolder(filepath.Dir(f.path)); err != nil {
		return "", err
	}
	path, err := filepath.EvalSymlinks(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.path, nil
	}
	return path, err
}

// read reads and checks the file. No file is an empty document and no info.
func (f *KeyFile) read() (*keyDocument, fs.FileInfo, error) {
	data, info, err := secret.ReadPrivate(f.path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &keyDocument{Version: keyVersion}, nil, nil
	}
	if fromSystem := new(fs.PathError); errors.As(err, &fromSystem) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the key file: "+err.Error())
	}
	doc := &keyDocument{}
	if err := decodeStrict(data, doc); err != nil {
		return nil, nil, fault.New(fault.Invalid, "the key file: "+fault.From(err).Msg)
	}
	if err := doc.check(); err != nil {
		return nil, nil, fault.New(fault.Invalid, "the key file: "+fault.From(err).Msg)
	}
	return doc, info, nil
}
