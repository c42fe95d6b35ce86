// Verify a transparency log by Go's own packages (golang.org/x/mod/sumdb): the checkpoint's signature, and each leaf into its root.
// Usage: verify PREFIX VKEY [FILE]. It prints the size; with FILE it keeps the checkpoint there, and holds the next one against it.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := verify(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: verify PREFIX VKEY [FILE]")
	}
	prefix, vkey := args[0], args[1]
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	signed, err := get(prefix + "/checkpoint")
	if err != nil {
		return err
	}
	tree, err := open(signed, verifier)
	if err != nil {
		return err
	}
	tiles := tlog.TileHashReader(tree, &reader{prefix})
	for at := int64(0); at < tree.N; at += 256 {
		if err := bundle(prefix, tree, at, tiles); err != nil {
			return err
		}
	}
	root, err := tlog.TreeHash(tree.N, tiles)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the tiles do not lead to the root")
	}
	if len(args) > 2 {
		if err := consistent(args[2], signed, tree, verifier, tiles); err != nil {
			return err
		}
	}
	fmt.Println(tree.N)
	return nil
}

func open(signed []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, errors.New("not a root")
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

// bundle compares the leaves of an entry bundle with the hashes that the tree has for them.
func bundle(prefix string, tree tlog.Tree, at int64, tiles tlog.HashReader) error {
	width := min(256, tree.N-at)
	path := strings.Replace(tlog.Tile{H: 8, L: 0, N: at / 256, W: int(width)}.Path(), "tile/8/0/", "tile/entries/", 1)
	content, err := get(prefix + "/" + path)
	if err != nil {
		return err
	}
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, at+int64(i))
	}
	hashes, err := tiles.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, want := range hashes {
		if len(content) < 2 || len(content) < 2+int(binary.BigEndian.Uint16(content)) {
			return fmt.Errorf("%s ends before leaf %d", path, at+int64(i))
		}
		leaf := content[2 : 2+binary.BigEndian.Uint16(content)]
		content = content[2+len(leaf):]
		if tlog.RecordHash(leaf) != want {
			return fmt.Errorf("leaf %d is not the one in the tree", at+int64(i))
		}
	}
	if len(content) != 0 {
		return fmt.Errorf("%s has more than its leaves", path)
	}
	return nil
}

func consistent(file string, signed []byte, tree tlog.Tree, verifier note.Verifier, tiles tlog.HashReader) error {
	kept, err := os.ReadFile(file)
	if err == nil && len(bytes.TrimSpace(kept)) > 0 {
		before, err := open(kept, verifier)
		if err != nil {
			return err
		}
		if before.N > tree.N {
			return fmt.Errorf("the log was at %d and is at %d", before.N, tree.N)
		}
		proof, err := tlog.ProveTree(tree.N, before.N, tiles)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return err
		}
	}
	return os.WriteFile(file, signed, 0o600)
}

// reader reads tiles as C2SP tlog-tiles names them: without the height.
type reader struct{ prefix string }

func (r *reader) Height() int { return 8 }

func (r *reader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r *reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, tile := range tiles {
		content, err := get(r.prefix + "/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		found[i] = content
	}
	return found, nil
}

func get(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
