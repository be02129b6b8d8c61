package kmsx

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"vault-mcp/fault"
)

// Action is what IAM calls an operation.
type Action string

// The actions. DescribeKey is Resolve's.
const (
	ActionDescribeKey    Action = "kms:DescribeKey"
	ActionEncrypt        Action = "kms:Encrypt"
	ActionDecrypt        Action = "kms:Decrypt"
	ActionDataKey        Action = "kms:GenerateDataKey"
	ActionDataKeyNoPlain Action = "kms:GenerateDataKeyWithoutPlaintext"
	ActionSign           Action = "kms:Sign"
	ActionVerify         Action = "kms:Verify"
)

// usages is what a key must be for, by the action.
var usages = map[Action]types.KeyUsageType{
	ActionEncrypt: types.KeyUsageTypeEncryptDecrypt, ActionDecrypt: types.KeyUsageTypeEncryptDecrypt,
	ActionDataKey: types.KeyUsageTypeEncryptDecrypt, ActionDataKeyNoPlain: types.KeyUsageTypeEncryptDecrypt,
	ActionSign: types.KeyUsageTypeSignVerify, ActionVerify: types.KeyUsageTypeSignVerify,
}

// IsAction reports whether there is a Bound for an action.
func IsAction(a Action) bool { return usages[a] != "" }

// Operation is one action on one key: all that a call may do.
type Operation struct {
	Action Action
	Key    Key
}

// String is the operation as it stands in records.
func (o Operation) String() string { return string(o.Action) + " " + o.Key.ARN }

// BindOptions say on whose behalf an operation is done and how.
type BindOptions struct {
	Owner   string // principal, for its share of the requests in flight
	Subject string // who it is, see SubjectKey
	// SubjectContext binds ciphertexts to Subject, as Config's does for all.
	SubjectContext bool
	Retryable      bool // may be repeated after a passing fault
}

// Bound does one operation. It belongs to one call and is not for concurrent
// use.
type Bound struct {
	client *Client
	op     Operation
	opt    BindOptions
	ids    []string
}

// Bind makes a Bound for an operation.
func (c *Client) Bind(op Operation, opt BindOptions) *Bound {
	return &Bound{client: c, op: op, opt: opt}
}

// RequestIDs are the ids under which AWS's own trail knows what the Bound did.
func (b *Bound) RequestIDs() []string { return b.ids }

// Key is the key on which it is done.
func (b *Bound) Key() Key { return b.op.Key }

// Arguments as errors name them.
const (
	fieldKeyID       = "/key_id"
	fieldPlaintext   = "/plaintext"
	fieldCiphertext  = "/ciphertext"
	fieldContext     = "/encryption_context"
	fieldGrantTokens = "/grant_tokens"
	fieldKeySpec     = "/key_spec"
	fieldBytes       = "/number_of_bytes"
	fieldMessage     = "/message"
	fieldType        = "/message_type"
	fieldAlgorithm   = "/signing_algorithm"
	fieldSignature   = "/signature"
)

// ready checks what all operations have in common: that the Bound is for the
// action, that the key is, and the grant tokens.
func (b *Bound) ready(action Action, grantTokens []string) error {
	if b.op.Action != action {
		return fault.Wrap(fault.Internal, msgInternal, errOther)
	}
	if b.op.Key.Usage != string(usages[action]) {
		return fault.Field(fieldKeyID, "must be a key for "+strings.ToLower(strings.ReplaceAll(string(usages[action]), "_", " and "))+
			"; this one is for another use")
	}
	return checkGrantTokens(grantTokens)
}

// do makes one request, with its deadline and in the name of its principal.
func do[In, Out any](ctx context.Context, b *Bound, call func(context.Context, *In, ...func(*kms.Options)) (*Out, error), in *In) (*Out, error) {
	ctx, done := begin(ctx, b.opt.Owner)
	defer done()
	out, err := call(ctx, in, func(o *kms.Options) {
		if !b.opt.Retryable {
			o.Retryer = aws.NopRetryer{}
		}
	})
	b.saw(requestID(out, err))
	if err != nil {
		return nil, classify(ctx, err)
	}
	return out, nil
}

// begin bounds a request in time, and notes for whom it is made: see wire.
func begin(ctx context.Context, owner string) (context.Context, func()) {
	ctx = context.WithValue(ctx, fromOwner{}, owner)
	if _, bounded := ctx.Deadline(); !bounded {
		return context.WithTimeout(ctx, longestCall)
	}
	return ctx, func() {}
}

// saw keeps an id for the trail; AWS's are UUIDs, what another server calls so
// might be anything.
func (b *Bound) saw(id string) {
	if isUUID(strings.ToLower(id)) && len(b.ids) < attempts {
		b.ids = append(b.ids, id)
	}
}

// requestID is AWS's id of a request. Each output of the SDK has its metadata in
// a field of the same name, and no method for it.
func requestID(out any, err error) string {
	var answered *awshttp.ResponseError
	if errors.As(err, &answered) {
		return answered.ServiceRequestID()
	}
	if err != nil {
		return ""
	}
	metadata, _ := reflect.ValueOf(out).Elem().FieldByName("ResultMetadata").Interface().(middleware.Metadata)
	id, _ := awsmiddleware.GetRequestIDMetadata(metadata)
	return id
}

// same refuses an answer that is about another key than the one that was
// authorized.
func (b *Bound) same(keyID *string) error {
	if aws.ToString(keyID) != b.op.Key.ARN {
		return unreadable()
	}
	return nil
}
