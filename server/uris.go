package server

import (
	"iter"
	"slices"
)

// uriSet holds up to maxWaiting URIs, in the order in which they came.
type uriSet struct {
	order []string
	has   map[string]struct{}
}

// add is false where there is no room.
func (u *uriSet) add(uri string) bool {
	if _, ok := u.has[uri]; ok {
		return true
	}
	if len(u.order) >= maxWaiting {
		return false
	}
	if u.has == nil {
		u.has = make(map[string]struct{})
	}
	u.has[uri] = struct{}{}
	u.order = append(u.order, uri)
	return true
}

// take empties it.
func (u *uriSet) take() []string {
	order := u.order
	*u = uriSet{}
	return order
}

// keep drops what is not to be kept.
func (u *uriSet) keep(wanted func(string) bool) {
	for _, uri := range u.take() {
		if wanted(uri) {
			u.add(uri)
		}
	}
}

func (u *uriSet) all() iter.Seq[string] { return slices.Values(u.order) }
