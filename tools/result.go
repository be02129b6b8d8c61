package tools

import (
	"context"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// WrapTTL is embedded in the input of a tool whose result carries a secret.
type WrapTTL struct {
	TTL string `json:"wrap_ttl,omitzero" jsonschema:"pattern=^[1-9][0-9]{0\\,6}[smh]?$" doc:"Deliver the secret as a single-use Vault wrapping token that lives this long (such as 60s or 5m; a bare number is seconds) instead of showing it. Whoever holds the token unwraps it once, so the secret does not pass through the conversation. The server clamps it."`
}

// Wrapped is embedded in the output of such a tool.
type Wrapped struct {
	Wrap *Wrap `json:"wrap,omitzero" doc:"In place of the secret, when wrap_ttl was given."`
}

// Wrap describes a single-use wrapping token.
type Wrap struct {
	Token        secret.Text `json:"token" doc:"Single-use token; unwrap it with Vault's sys/wrapping/unwrap (vault unwrap)."`
	TTL          int         `json:"ttl" doc:"Seconds until the token expires unused."`
	CreationPath string      `json:"creation_path" doc:"Where the token was made; whoever unwraps compares it."`
	CreationTime string      `json:"creation_time" doc:"When the token was made, RFC 3339."`
}

// reveal is the one encoder that shows secrets: of a result, to its caller.
var reveal = jsonv2.WithMarshalers(revealed)

var revealed = jsonv2.JoinMarshalers(
	jsonv2.MarshalToFunc(func(e *jsontext.Encoder, t secret.Text) error {
		return e.WriteToken(jsontext.String(t.Reveal()))
	}),
	jsonv2.MarshalToFunc(func(e *jsontext.Encoder, c secret.Content) error {
		return e.WriteToken(jsontext.String(c.Reveal()))
	}),
	jsonv2.MarshalToFunc(func(e *jsontext.Encoder, j secret.JSON) error {
		return e.WriteValue(j.Reveal())
	}),
)

// sorted gives equal results equal texts, and so equal hashes in the trail.
var sorted = jsonv2.Deterministic(true)

func encodeResult(out any) (json.RawMessage, error) {
	b, err := jsonv2.Marshal(out, reveal, sorted)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "the result could not be encoded", nil)
	}
	return b, nil
}

// wrapTTL is the time that an input asks for, clamped; zero for not at all.
func (t *Tool) wrapTTL(in any, longest time.Duration) (time.Duration, error) {
	if !t.Wraps {
		return 0, nil
	}
	text := reflect.ValueOf(in).FieldByIndex(t.input.wraps).Field(0).String()
	if text == "" {
		return 0, nil
	}
	number, unit := strings.TrimRight(text, "smh"), time.Second
	switch text[len(text)-1] {
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return 0, fault.Field("/wrap_ttl", "must be a duration of at least one second, such as 60s or 5m")
	}
	if n > int(longest/unit) { // before multiplying, which could overflow
		return longest, nil
	}
	return time.Duration(n) * unit, nil
}

// wrapSecrets moves the secret fields of a result under a wrapping token.
func (t *Tool) wrapSecrets(ctx context.Context, bound *vaultx.Bound, out any, ttl time.Duration) (any, error) {
	result := reflect.New(t.output.typ).Elem()
	result.Set(reflect.ValueOf(out))
	payload := make(map[string]jsontext.Value, len(t.output.secrets))
	for _, index := range t.output.secrets {
		field := result.FieldByIndex(index)
		if field.IsZero() {
			continue
		}
		raw, err := encodeResult(field.Interface())
		if err != nil {
			return nil, err
		}
		payload[jsonName(t.output.typ.FieldByIndex(index))] = jsontext.Value(raw)
		field.SetZero()
	}
	info, err := bound.Wrap(ctx, payload, ttl)
	if err != nil {
		return nil, err
	}
	result.FieldByIndex(t.output.wraps).Set(reflect.ValueOf(Wrapped{Wrap: &Wrap{
		Token: info.Token, TTL: info.TTL, CreationPath: info.CreationPath, CreationTime: info.CreationTime,
	}}))
	return result.Interface(), nil
}
