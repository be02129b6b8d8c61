package vaultx

// Escaped is the path as it stands in a request line.
func (p Path) Escaped() string { return p.escaped }

// NewKVData is what decoding a value gives.
func NewKVData(data string) (d KVData, err error) {
	err = d.UnmarshalJSON([]byte(data))
	return d, err
}
