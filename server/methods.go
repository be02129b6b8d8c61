package server

// method is what this server knows of a protocol method.
type method struct {
	notification bool
	older        bool  // 2026-07-28 has it no more
	takes        param // one that the frame gate holds to its type
}

// param is a member of the params of methods of resources.
type param int

const (
	noParam param = iota
	aURI          // which there must be
	aCursor       // which there may be
)

// methods are those that this server serves. Others are answered here, before
// the SDK, which would repeat their names in its errors.
var methods = map[string]method{
	"initialize":                       {},
	"ping":                             {},
	"server/discover":                  {},
	"tools/list":                       {},
	"tools/call":                       {},
	"resources/list":                   {takes: aCursor},
	"resources/read":                   {takes: aURI},
	"resources/templates/list":         {takes: aCursor},
	"resources/subscribe":              {takes: aURI, older: true},
	"resources/unsubscribe":            {takes: aURI, older: true},
	"prompts/list":                     {},
	"prompts/get":                      {},
	"completion/complete":              {},
	"subscriptions/listen":             {},
	"logging/setLevel":                 {},
	"notifications/initialized":        {notification: true},
	"notifications/cancelled":          {notification: true},
	"notifications/progress":           {notification: true},
	"notifications/roots/list_changed": {notification: true},
}

// The methods that the adapters treat in a way of their own.
const (
	methodInitialize = "initialize"
	methodCall       = "tools/call"
	methodList       = "tools/list"
	methodListen     = "subscriptions/listen"
	methodRead       = "resources/read"
	methodGetPrompt  = "prompts/get"
	methodComplete   = "completion/complete"

	methodSubscribe   = "resources/subscribe"
	methodUnsubscribe = "resources/unsubscribe"
)

// names holds the methods' names once, so that reading one allocates nothing.
var names = func() map[string]string {
	m := make(map[string]string, len(methods))
	for name := range methods {
		m[`"`+name+`"`] = name
	}
	return m
}()

// methodName is a method's name from its raw JSON, which has no escapes.
func methodName(raw []byte) string {
	if name, ok := names[string(raw)]; ok {
		return name
	}
	return string(raw[1 : len(raw)-1])
}

// checkMethod refuses a method that is not served, and a request that should
// be a notification or the reverse. Notifications of unknown methods are
// reported as ignored: nobody waits for an answer.
func checkMethod(f *Frame) (ignore bool, err *FrameError) {
	m, known := methods[f.Method]
	switch {
	case (!known || m.older && f.Modern) && f.IsCall():
		return false, &FrameError{codeNoMethod, "this server has no such method"}
	case !known:
		return true, nil
	case m.notification && f.IsCall():
		return false, &FrameError{codeInvalidRequest, "a notification has no id"}
	case !m.notification && !f.IsCall():
		return false, &FrameError{codeInvalidRequest, "a request needs an id"}
	}
	return false, nil
}
