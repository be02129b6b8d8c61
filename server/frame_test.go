package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/stretchr/testify/require"

	"vault-mcp/server"
)

const goodCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"a/b"},"_meta":{"progressToken":1}}}`

func deep(n int) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.write","arguments":` +
		strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) + `}}`
}

func TestFrameAccepts(t *testing.T) {
	for name, tc := range map[string]struct {
		in       string
		method   string
		id, tool string
		modern   bool
		response bool
	}{
		"call":                  {in: goodCall, method: "tools/call", id: "7", tool: `"kv.read"`},
		"members in any order":  {in: `{"params":{"name":"kv.read"},"method":"tools/call","id":"x","jsonrpc":"2.0"}`, method: "tools/call", id: `"x"`, tool: `"kv.read"`},
		"white space":           {in: " \r\n\t{\"jsonrpc\" : \"2.0\", \"id\":1, \"method\":\"ping\"}\r\n", method: "ping", id: "1"},
		"notification":          {in: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, method: "notifications/initialized"},
		"negative id":           {in: `{"jsonrpc":"2.0","id":-5,"method":"ping"}`, method: "ping", id: "-5"},
		"largest safe id":       {in: `{"jsonrpc":"2.0","id":9007199254740991,"method":"ping"}`, method: "ping", id: "9007199254740991"},
		"empty string id":       {in: `{"jsonrpc":"2.0","id":"","method":"ping"}`, method: "ping", id: `""`},
		"unknown params member": {in: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","task":{}}}`, method: "tools/call", id: "1", tool: `"a"`},
		"modern":                {in: `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, method: "ping", id: "1", modern: true},
		"response":              {in: `{"jsonrpc":"2.0","id":1,"result":{}}`, id: "1", response: true},
		"error response":        {in: `{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`, id: "1", response: true},
		"names of other tools":  {in: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"Name":1,"name":2}}`, method: "initialize", id: "1"},
		"initialize of 15 KiB":  {in: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":"` + strings.Repeat("a", 15<<10) + `"}}`, method: "initialize", id: "1"},
		"deep data":             {in: deep(250), method: "tools/call", id: "1", tool: `"kv.write"`},
		"brackets in a string":  {in: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"\"` + strings.Repeat("[", 5000) + `"}}}`, method: "tools/call", id: "1", tool: `"a"`},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := server.CheckFrame([]byte(tc.in))
			require.NoError(t, err)
			require.Equal(t, tc.method, f.Method)
			require.Equal(t, tc.id, string(f.ID))
			require.Equal(t, tc.tool, string(f.Tool))
			require.Equal(t, tc.modern, f.Modern)
			require.Equal(t, tc.response, f.Response)
		})
	}
}

// refusedFrames are messages that must never reach the SDK, with the code of
// the answer and the id that it bears. The rows of the corpus that concern
// JSON and envelopes are all here.
var refusedFrames = map[string]struct {
	in   string
	code int
	id   string
}{
	"empty":                       {``, -32700, ""},
	"not JSON":                    {`hello`, -32700, ""},
	"NUL line":                    {"\x00\x00", -32700, ""},
	"byte order mark":             {"\ufeff" + goodCall, -32700, ""},
	"UTF-16":                      {"\xff\xfe{\x00}\x00", -32700, ""},
	"invalid UTF-8":               {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"` + "\xff" + `"}}}`, -32700, "1"},
	"lone surrogate":              {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":"\ud800"}}}`, -32700, "1"},
	"trailing value":              {goodCall + `{}`, -32700, "7"},
	"truncated":                   {goodCall[:60], -32700, "7"},
	"NaN":                         {`{"jsonrpc":"2.0","id":NaN,"method":"ping"}`, -32700, ""},
	"batch":                       {`[` + goodCall + `]`, -32600, ""},
	"batch of 1000":               {`[` + strings.Repeat(goodCall+`,`, 999) + goodCall + `]`, -32600, ""},
	"empty batch":                 {`[]`, -32600, ""},
	"duplicate method":            {`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, -32600, "1"},
	"duplicate id":                {`{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`, -32600, "1"},
	"duplicate name":              {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`, -32600, "1"},
	"duplicate by escape":         {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}`, -32600, "1"},
	"duplicate in arguments":      {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"d":{"k":1,"k":2}}}}`, -32600, "1"},
	"initialize of 17 KiB":        {`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"experimental":{"a":"` + strings.Repeat("a", 17<<10) + `"}}}}`, -32600, "1"},
	"no version":                  {`{"id":1,"method":"ping"}`, -32600, "1"},
	"other version":               {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, -32600, "1"},
	"version as number":           {`{"jsonrpc":2.0,"id":1,"method":"ping"}`, -32600, "1"},
	"Method beside method":        {`{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"ping"}`, -32600, "1"},
	"METHOD alone":                {`{"jsonrpc":"2.0","id":1,"METHOD":"ping"}`, -32600, "1"},
	"escaped member":              {`{"jsonrpc":"2.0","id":1,"m\u0065thod":"ping"}`, -32600, "1"},
	"unknown member":              {`{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}`, -32600, "1"},
	"id null":                     {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600, ""},
	"id float":                    {`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, -32600, ""},
	"id exponent":                 {`{"jsonrpc":"2.0","id":1e3,"method":"ping"}`, -32600, ""},
	"id minus zero":               {`{"jsonrpc":"2.0","id":-0,"method":"ping"}`, -32600, ""},
	"id beyond a float":           {`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, -32600, ""},
	"id object":                   {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, -32600, ""},
	"id of 1 MiB":                 {`{"jsonrpc":"2.0","id":"` + strings.Repeat("a", 1<<20) + `","method":"ping"}`, -32600, ""},
	"method number":               {`{"jsonrpc":"2.0","method":5,"id":1}`, -32600, "1"},
	"method empty":                {`{"jsonrpc":"2.0","id":1,"method":""}`, -32600, "1"},
	"method escaped":              {`{"jsonrpc":"2.0","id":1,"method":"tools\/call"}`, -32600, "1"},
	"method with a line end":      {`{"jsonrpc":"2.0","id":1,"method":"ping\n"}`, -32600, "1"},
	"method long":                 {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 300) + `"}`, -32600, "1"},
	"params array":                {`{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`, -32600, "1"},
	"params null":                 {`{"jsonrpc":"2.0","id":1,"method":"ping","params":null}`, -32600, "1"},
	"_meta array":                 {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}`, -32602, "1"},
	"name number":                 {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}`, -32602, "1"},
	"name absent":                 {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, -32602, "1"},
	"params absent":               {`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, -32602, "1"},
	"name long":                   {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + strings.Repeat("a", 300) + `"}}`, -32602, "1"},
	"Name beside name":            {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","Name":"kv.destroy"}}`, -32602, "1"},
	"arguments array":             {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":[]}}`, -32602, "1"},
	"arguments null":              {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":null}}`, -32602, "1"},
	"arguments before the method": {`{"params":{"arguments":"x","name":"a"},"jsonrpc":"2.0","id":1,"method":"tools/call"}`, -32602, "1"},
	"inputResponses string":       {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","inputResponses":"x"}}`, -32602, "1"},
	"requestState object":         {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","requestState":{}}}`, -32602, "1"},
	"prompt's arguments list":     {`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"a","arguments":["x"]}}`, -32602, "1"},
	"prompt's argument number":    {`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"a","arguments":{"x":1}}}`, -32602, "1"},
	"reference of both kinds":     {`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","uri":"b"},"argument":{"name":"c","value":""}}}`, -32602, "1"},
	"reference before the method": {`{"params":{"ref":5,"argument":{"name":"c","value":""}},"jsonrpc":"2.0","id":1,"method":"completion/complete"}`, -32602, "1"},
	"completion of 65 KiB":        {`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a"},"argument":{"name":"c","value":"` + strings.Repeat("a", 65<<10) + `"}}}`, -32600, "1"},
	"request and response":        {`{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, -32600, "1"},
	"neither":                     {`{"jsonrpc":"2.0","id":1}`, -32600, "1"},
	"result and error":            {`{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}`, -32600, "1"},
	"response without id":         {`{"jsonrpc":"2.0","result":{}}`, -32600, ""},
	"error string":                {`{"jsonrpc":"2.0","id":1,"error":"x"}`, -32600, "1"},
	"error code string":           {`{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":"y"}}`, -32600, "1"},
	"depth 300":                   {deep(300), -32600, ""},
	"depth 1001":                  {deep(1001), -32600, ""},
	"depth 1e6":                   {strings.Repeat("[", 1_000_000), -32600, ""},
	"4 MiB and a byte":            {`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 4<<20) + `"}`, -32600, ""},
}

func TestFrameRefuses(t *testing.T) {
	for name, tc := range refusedFrames {
		t.Run(name, func(t *testing.T) {
			f, err := server.CheckFrame([]byte(tc.in))
			var refused *server.FrameError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tc.code, refused.Code, refused.Msg)
			require.Equal(t, tc.id, string(f.ID))
		})
	}
}

// CVE-2026-27896: member names must not match in another case or through
// Unicode folding.
func TestCVE_2026_27896_folded_names(t *testing.T) {
	for _, key := range []string{"Name", "NAME", "naMe", "argumentſ", "inputReſponses", "Arguments", "_META", "requeſtState"} {
		in := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read",%q:{}}}`, key)
		_, err := server.CheckFrame([]byte(in))
		require.Error(t, err, key)
	}
	for _, key := range []string{"METHOD", "Id", "reſult", "paramſ", "JSONRPC"} {
		in := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"ping",%q:{}}`, key)
		_, err := server.CheckFrame([]byte(in))
		require.Error(t, err, key)
	}
}

// GHSA-q382-vc8q-7jhj: a name followed by NUL is another name.
func TestGHSA_q382_vc8q_7jhj_NUL_in_names(t *testing.T) {
	for _, in := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name\u0000":"a"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000":"tools/call"}`,
	} {
		_, err := server.CheckFrame([]byte(in))
		require.Error(t, err, in)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(goodCall))
	for _, tc := range refusedFrames {
		if len(tc.in) < 4096 {
			f.Add([]byte(tc.in))
		}
	}
	f.Add([]byte(`{"jsonrpc":"2.0","id":"\u0061","method":"ping"}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no","data":[1]}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"a","arguments":{"b":"c"}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a"},"argument":{"name":"b","value":""},"context":{"arguments":{"c":"d"}}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/resource","uri":"a"},"argument":{"name":"b","value":""}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := bytes.Clone(data)
		frame, err := server.CheckFrame(data)
		require.Equal(t, kept, data, "the gate changed the message")
		if err != nil {
			var refused *server.FrameError
			require.ErrorAs(t, err, &refused)
			return
		}
		// Whatever passes, the SDK reads, and reads as the gate did.
		msg, err := jsonrpc.DecodeMessage(data)
		require.NoError(t, err)
		var id any
		if frame.ID != nil {
			require.NoError(t, json.Unmarshal(frame.ID, &id))
			if n, ok := id.(float64); ok {
				id = int64(n)
			}
		}
		if frame.Response {
			require.Equal(t, id, msg.(*jsonrpc.Response).ID.Raw())
			return
		}
		req := msg.(*jsonrpc.Request)
		require.Equal(t, frame.Method, req.Method)
		require.Equal(t, id, req.ID.Raw())
		switch frame.Method {
		case "tools/call":
			var ours string
			require.NoError(t, json.Unmarshal(frame.Tool, &ours))
			require.Equal(t, ours, sdkName(t, frame.Method, req.Params))
		case "prompts/get", "completion/complete":
			sdkName(t, frame.Method, req.Params)
		}
	})
}

func BenchmarkCheckFrame(b *testing.B) {
	for name, in := range map[string]string{
		"read": goodCall,
		"16k":  `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.write","arguments":{"path":"a/b","data":{"v":"` + strings.Repeat("x", 16<<10) + `"}}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(in)
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := server.CheckFrame(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
