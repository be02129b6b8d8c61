package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vault-mcp/secret"
)

// canary is what must not be seen; canaryHex and canaryList are other spellings
// that fmt has for it.
const (
	canary     = "Canary-7f3a"
	canaryHex  = "43616e6172792d37663361"
	canaryList = "67 97 110 97 114 121"
)

func requireHidden(t *testing.T, what, text string) {
	t.Helper()
	for _, c := range []string{canary, canaryHex, canaryList, "43 61 6e", "0x43"} {
		require.NotContains(t, text, c, what)
	}
}

type holder struct {
	Text    secret.Text
	JSON    secret.JSON
	Pointer *secret.Text
	List    []secret.Text
	Map     map[string]secret.JSON
	Any     any
	text    secret.Text // unexported, so fmt and others print it by reflection
	json    secret.JSON
	any     any
	Body    secret.Content
	body    secret.Content
}

func held() holder {
	text, j := secret.NewText(canary), secret.NewJSON([]byte(`{"a":"`+canary+`"}`))
	return holder{
		text, j, &text, []secret.Text{text}, map[string]secret.JSON{"k": j}, text, text, j, j,
		secret.Content{Text: text}, secret.Content{Text: text},
	}
}

func values() map[string]any {
	h := held()
	return map[string]any{
		"text": h.Text, "json": h.JSON, "content": h.Body, "pointer to content": &h.Body, "pointer": &h.Text, "pointer to json": &h.JSON,
		"struct": h, "pointer to struct": &h, "list": []any{h.Text, h.JSON}, "map": map[string]any{"k": h.Text},
		"list of structs": []holder{h}, "error": fmt.Errorf("failed with %v and %+v", h.Text, h),
	}
}

func TestNoVerbShowsASecret(t *testing.T) {
	for name, v := range values() {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "# ", "+#", "20", ".3", "-20.3"} {
			for verb := 'A'; verb <= 'z'; verb++ {
				format := "%" + flags + string(verb)
				requireHidden(t, name+" "+format, fmt.Sprintf(format, v))
			}
		}
		requireHidden(t, name, fmt.Sprint(v)+fmt.Sprintln(v))
	}
	require.Equal(t, secret.Redacted, fmt.Sprintf("%s", secret.NewText(canary)))
	require.Equal(t, secret.Redacted, fmt.Sprintf("%#v", secret.NewJSON([]byte("1"))))
	require.Equal(t, secret.Redacted, secret.NewText(canary).String())
	require.Equal(t, secret.Redacted, secret.NewJSON([]byte("1")).String())
}

func TestNoEncoderShowsASecret(t *testing.T) {
	for name, v := range values() {
		if err, ok := v.(error); ok {
			v = err.Error()
		}
		b, err := json.Marshal(v)
		require.NoError(t, err, name)
		requireHidden(t, name, string(b))
		b, err = jsonv2.Marshal(v)
		require.NoError(t, err, name)
		requireHidden(t, name, string(b))
	}
	b, err := json.Marshal(map[secret.Text]secret.Text{secret.NewText(canary): secret.NewText(canary)})
	require.NoError(t, err)
	require.JSONEq(t, `{"[redacted]":"[redacted]"}`, string(b))
}

func TestNoLoggerShowsASecret(t *testing.T) {
	for name, v := range values() {
		var out bytes.Buffer
		for _, enc := range []zapcore.Encoder{
			zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
			zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
		} {
			log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zap.DebugLevel))
			log.Info("x", zap.Any("any", v), zap.Reflect("reflect", v))
			log.Sugar().Infow("x", "v", v)
			log.Sugar().Infof("%v %+v %#v", v, v, v)
			if s, ok := v.(fmt.Stringer); ok {
				log.Info("x", zap.Stringer("stringer", s))
			}
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		require.Contains(t, out.String(), "x")
		requireHidden(t, name, out.String())
	}
}

func TestRevealIsTheWayOut(t *testing.T) {
	require.Equal(t, canary, secret.NewText(canary).Reveal())
	require.False(t, secret.NewText(canary).IsZero())
	for _, empty := range []secret.Text{{}, secret.NewText("")} {
		require.True(t, empty.IsZero())
		require.Empty(t, empty.Reveal())
		require.Equal(t, secret.Redacted, fmt.Sprint(empty), "not even that there is none")
	}
	require.Equal(t, "[1]", string(secret.NewJSON([]byte("[1]")).Reveal()))
	require.True(t, secret.JSON{}.IsZero())
	require.True(t, secret.Content{}.IsZero())
	require.False(t, secret.Content{Text: secret.NewText("")}.IsZero(), "it is there")
	require.Nil(t, secret.JSON{}.Reveal())
}

func TestSecretsAreDecoded(t *testing.T) {
	const doc = `{"text":"` + canary + `","json":{"n":12345678901234567890.10,"s":"\u00e9"}}`
	type target struct {
		Text secret.Text `json:"text"`
		JSON secret.JSON `json:"json"`
	}
	var v1, v2 target
	require.NoError(t, json.Unmarshal([]byte(doc), &v1))
	require.NoError(t, jsonv2.Unmarshal([]byte(doc), &v2))
	for _, got := range []target{v1, v2} {
		require.Equal(t, canary, got.Text.Reveal())
		// As it came: numbers keep their digits.
		require.Equal(t, `{"n":12345678901234567890.10,"s":"\u00e9"}`, string(got.JSON.Reveal())) //nolint:testifylint // to the byte
	}
	// It is a copy: what was decoded from may be used again.
	raw := []byte(`"` + canary + `"`)
	var j secret.JSON
	require.NoError(t, j.UnmarshalJSON(raw))
	clear(raw)
	require.Equal(t, `"`+canary+`"`, string(j.Reveal()))
}

// A secret that does not decode is not in the error.
func TestErrorsOfDecodingHideTheValue(t *testing.T) {
	var h struct {
		Text secret.Text `json:"text"`
	}
	err := errors.Join(
		json.Unmarshal([]byte(`{"text":{"`+canary+`":1}}`), &h),
		jsonv2.Unmarshal([]byte(`{"text":["`+canary+`"]}`), &h),
	)
	require.Error(t, err)
	requireHidden(t, "error", err.Error())
}
