package audit

import (
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

// Kind says what a record is about.
type Kind string

// The kinds that callers of Append write. An Attempt comes before the upstream
// is asked, an Outcome before the caller gets an answer; a Reject is a request
// that never became a call.
const (
	Attempt Kind = "attempt"
	Outcome Kind = "outcome"
	Reject  Kind = "reject"
)

// The kinds that the trail itself writes.
const (
	Opened     Kind = "open"
	Recovery   Kind = "recovery"
	Checkpoint Kind = "checkpoint"
	Rotate     Kind = "rotate"
)

// Bounds. Longer strings are cut at a character, and Truncated is set.
const (
	maxRecord = 16 << 10 // bytes of a line with its line end

	maxNeeds = 6 << 10 // encoded bytes of all needs
	maxNeed  = 2 << 10 // of one need
	maxArgs  = 4 << 10 // of all args
	maxArg   = 256     // of one arg's name, and of its hash

	maxBeside  = 64              // chains that an opening record names
	maxName    = 128             // encoded bytes of such a name
	maxBesides = maxBeside * 131 // of them all: with quotes, and a comma
)

// Record is one line of the trail. The caller fills Kind and what it knows of
// the call; Version, Seq, Time, Prev, MAC and the fields of the trail's own
// records are filled by the trail, whatever the caller puts there.
type Record struct {
	Version int       `json:"v"`
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Kind    Kind      `json:"kind"`

	RequestID      string            `json:"request_id,omitzero"`
	Transport      string            `json:"transport,omitzero"` // stdio, mcp, rpc, rest
	Remote         string            `json:"remote,omitzero"`    // address of the caller
	Subject        string            `json:"subject,omitzero"`
	AuthMethod     string            `json:"auth_method,omitzero"`
	CredentialID   string            `json:"credential_id,omitzero"`
	Issuer         string            `json:"issuer,omitzero"` // of a subject that is not the operator's own
	Rule           string            `json:"rule,omitzero"`   // of configuration, by which it is who it is
	Tool           string            `json:"tool,omitzero"`
	Scope          string            `json:"scope,omitzero"`
	Needs          []string          `json:"needs,omitempty"`  // "read secret/data/mcp/a/b", as asked of the upstream
	Args           map[string]string `json:"args,omitempty"`   // argument name to keyed hash
	Result         string            `json:"result,omitzero"`  // keyed hash
	Outcome        string            `json:"outcome,omitzero"` // "ok", a fault.Kind, or "unknown"
	Detail         string            `json:"detail,omitzero"`  // a message without values
	DurationUS     int64             `json:"duration_us,omitzero"`
	VaultRequestID string            `json:"vault_request_id,omitzero"`
	AWSRequestID   string            `json:"aws_request_id,omitzero"`
	Truncated      bool              `json:"truncated,omitzero"` // something in this record was too long

	Chain    string   `json:"chain,omitzero"`
	Key      string   `json:"key,omitzero"`
	Part     uint64   `json:"part,omitzero"`
	File     string   `json:"file,omitzero"`
	Chains   []string `json:"chains,omitempty"`
	Count    uint64   `json:"count,omitzero"`
	Cut      uint64   `json:"cut,omitzero"`
	Torn     uint64   `json:"torn,omitzero"`
	Unsynced uint64   `json:"unsynced,omitzero"`
	Refused  uint64   `json:"refused,omitzero"`

	Prev string `json:"prev"`
	MAC  string `json:"mac"`
}

// Parse reads one line of a trail. It does not check the chain; Verify does.
func Parse(line []byte) (Record, error) {
	var r Record
	err := jsonv2.Unmarshal(line, &r)
	return r, err
}

// own reports whether a kind is reserved to the trail itself.
func (k Kind) own() bool {
	switch k {
	case Opened, Recovery, Checkpoint, Rotate:
		return true
	default:
		return false
	}
}
