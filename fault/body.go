package fault

import "io"

// Bounded is a body that fails with an error of the caller's choice, rather than
// ends, after so many bytes.
func Bounded(body io.ReadCloser, most int64, tooLarge error) io.ReadCloser {
	return &bounded{body, most, tooLarge}
}

type bounded struct {
	io.ReadCloser
	left     int64 // negative: the bound was passed
	tooLarge error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.tooLarge
	}
	// One byte more than is left tells a body that is too large from one that
	// ends just here.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.tooLarge
	}
	return n, err
}
